"""A bar on standard error for work on many files."""


class Bar:
    """A bar, where standard error is a terminal; `update` moves it."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self.bars = Progress(console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bars.add_task("images", total=total)

    def __enter__(self) -> "Bar":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def update(self, done: int, total: int) -> None:
        self.bars.update(self.task, completed=done, total=total)
