"""What commands and calls choose where nothing is said. It imports nothing slow, for `--help`."""

K = 50_000  # Gaussians
SECONDS = 10.0  # budget of a fit
STEPS = 200  # of the fit that a start is for, as `Budget.foreseen` has it for SECONDS
AUTO = "auto"  # a number of Gaussians by the picture's detail
START = "prior"
QUALITY = "high"
REFINED = ("medium", "small")  # qualities of files that are refined
REFINE = 300  # steps of their refining, at least
REFINE_SHARE = 0.25  # of the steps of the fit: the longer it was, the more is there to undo
WHOLE = (1, 1)  # the first of one shard, which is all
# Errors that end the encoding of one picture of a folder, and not of the others.
FAILURES = (ValueError, RuntimeError, OSError, MemoryError, ArithmeticError)
