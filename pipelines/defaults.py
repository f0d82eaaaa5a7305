"""What commands and calls choose where nothing is said. It imports nothing slow, for `--help`."""

K = 50_000  # Gaussians
SECONDS = 10.0  # budget of a fit
STEPS = 200  # of the fit that a start is for, as `Budget.foreseen` has it for SECONDS
AUTO = "auto"  # a number of Gaussians by the picture's detail
START = "prior"
QUALITY = "high"
COARSE = ("medium", "small")  # qualities of files that are refined after any fit
REFINE = 300  # steps of their refining, at least
REFINE_SHARE = 0.25  # of the steps of the fit: the longer it was, the more is there to undo
REFINE_HIGH = 48  # steps for which files of high quality are refined, after a long fit
LONG = 400  # steps of such a fit; beside a shorter one, refining would take too much of the time
WHOLE = (1, 1)  # the first of one shard, which is all
# Errors that end the encoding of one picture of a folder, and not of the others.
FAILURES = (ValueError, RuntimeError, OSError, MemoryError, ArithmeticError)
