"""Services in the network: their errors, keys, repeated attempts and stand-ins, and OpenAI's models."""
