"""What answers a prompt: an OpenAI-compatible endpoint, a vLLM engine, or transformers in process."""
