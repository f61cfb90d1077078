"""Pictures from prompts: a stage over rows that any text-to-image pipeline of diffusers answers."""
