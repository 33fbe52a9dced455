"""The demo behind `scripts/demo`: real processes, a real registry, a real engine, judged from outside the product.

`story` is what happens, `stage` the processes it happens with, `engine` and `traffic` how it is looked at.
"""
