"""Training: the cold start, and SFT, KTO, DPO or a policy gradient on harvested rows, with LoRA or of all weights."""
