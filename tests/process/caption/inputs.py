"""What vLLM's engine is given, compared."""


def same_input(one, other):
    names = ("prompt_token_ids", "mm_kwargs", "mm_hashes", "mm_placeholders")
    return all(one[name] == other[name] for name in names)
