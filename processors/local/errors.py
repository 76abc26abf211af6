"""What can go wrong with a model on this machine."""


class LocalModelError(Exception):
    """Base of every error of `bargein.processors.local`."""


class LocalModelMissing(LocalModelError):
    """Raised when the package of an engine or of its weights is not installed."""


class WorkerStartFailed(LocalModelError):
    """Raised when a model's process ends or fails before its model is loaded."""


class WorkerDied(LocalModelError):
    """Raised when a model's process ends with a request pending, or was closed before the request."""


class ModelRequestFailed(LocalModelError):
    """Raised when a model's engine refuses or fails one request; its process goes on."""
