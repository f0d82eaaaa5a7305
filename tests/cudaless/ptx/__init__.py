"""PTX to C: parse.py reads, body.py and instructions.py translate one function, module.py all."""
