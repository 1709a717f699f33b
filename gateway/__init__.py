"""The application: vocabulary (model), use cases (sharing), doors (web, feeds), and the roof that wires them."""


def program_version() -> str:
    """The version of the installed package."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # a third of the time of `--help`

    try:
        return version("image-sharing-gateway")
    except PackageNotFoundError:
        return "not installed"
