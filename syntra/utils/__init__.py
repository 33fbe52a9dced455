"""One concept per module, abstract enough to be a library of its own; what is not belongs elsewhere. Imports nothing of ours."""
