"""What a control plane says and understands, where that differs from the wire contract: frames to frames, and pure.

It holds no state, does no input or output, and knows no service. Used at the door of the connection, and nowhere else.
"""
