"""What happens to a request between receiver and ring: identity, validation, RED metrics, sampling, errors."""
