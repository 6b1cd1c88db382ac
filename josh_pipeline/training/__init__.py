"""LoRA training through TRL: the cold start, and SFT, KTO or DPO on harvested rows."""
