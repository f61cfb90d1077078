"""The sides of stage_overhead: streets and what they are measured against."""
