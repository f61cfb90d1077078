"""A sound copy of tars that are not: what is in them, what can be saved, what goes along."""
