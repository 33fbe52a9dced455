"""What people are alerted of: once when it begins and once when it is over."""
