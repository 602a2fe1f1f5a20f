"""Files that could not be read on any rank (data.on_error skip)."""

from collections.abc import Callable, Collection

import torch

from distdl.data.loaders.base import Loader
from distdl.strategies.base import Strategy
from distdl.strategies.text import gather_text


class UnreadableFiles:
    """Collects the files that the loaders of all ranks have skipped, and warns once about each."""

    def __init__(self, strategy: Strategy, loaders: Collection[Loader], warn: Callable[[str], None]) -> None:
        self._strategy, self._loaders, self._warn = strategy, loaders, warn
        self.messages: list[str] = []
        """One sentence for each file, sorted."""
        self._gathered = 0

    def gather(self) -> None:
        """Gather the messages of all ranks. Called on every rank."""
        local = [message for loader in self._loaders for message in loader.skipped]
        if int(self._strategy.all_reduce(torch.tensor([len(local)]))) <= self._gathered:
            return
        texts = gather_text(self._strategy, "\n".join(local))
        messages = sorted({line for text in texts for line in text.splitlines()})
        for message in messages:
            if message not in self.messages:
                self._warn(message)
        self.messages, self._gathered = messages, sum(len(text.splitlines()) for text in texts)
