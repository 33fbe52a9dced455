"""The demo of `scripts/demo`: real processes, a real registry, a real engine, checked from outside the product.

`story` contains the steps, `stage` the processes; `engine` and `traffic` check the results.
"""
