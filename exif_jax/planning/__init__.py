"""What a training step costs on hardware that is not there: compiled, never run.

topologies.py  names such as v5e:16x16 -> devices to compile for
programs.py    the programs of a stage: the same functions that training compiles
collectives.py what devices exchange, read from compiled text
costs.py       memory, arithmetic, traffic and exchange of a compiled program; bounds of its time
batches.py     the largest batch that fits
report.py      the plan of a stage, as JSON and as text
"""
