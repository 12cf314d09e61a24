"""Base classes of what may be used as a context manager, which closes it."""

from typing import Self


class Closing:
    """An object whose `close` ends a `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError


class AsyncClosing:
    """An object whose `close` ends an `async with` block."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close it."""
        raise NotImplementedError
