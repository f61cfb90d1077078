"""The proof that what lies in a folder is whole and agrees."""
