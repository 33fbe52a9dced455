"""The demo of `scripts/demo`: real processes, a real runtime, checked from outside the product.

`story` contains the steps and `stage` the processes; a `Runtime` of `runtimes` and `traffic` check the results.
"""
