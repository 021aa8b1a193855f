"""Time and memory of ckptkit beside what one uses without it, and beside the limit.

python -m benchmarks.run --help
"""
