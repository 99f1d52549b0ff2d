"""Decoding on other machines: a worker takes some files at a time, and gives back what they are."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Any, TypeVar

from stages.sources.decoding import estimate_memory, naming
from stages.sources.quiet import quiet_decoders

# A batch takes a tenth of a second: long beside what it takes to send, short beside all.
BATCH_FILES, BATCH_BYTES = 32, 4_000_000
# What is on its way or waits at the scheduler: enough for hundreds of workers.
SENT_BYTES = 250_000_000
# And with what came back, but waits for a batch before it.
AHEAD_BYTES = 1_000_000_000
T = TypeVar("T")
Content = TypeVar("Content", bound=bytes | str)
Result = TypeVar("Result")
# Names, the results that are to come, and the bytes of both.
Batch = tuple[list[T], Future[list[Result]], int]


def decode_in_batches(
    contents: Iterable[tuple[T, Content]],
    decode: Callable[[Content], Result],
    executor: Executor,
    result_bytes: int,
) -> Iterator[tuple[T, Result]]:
    """Decodes files on the executor's workers, and yields them in the order given.

    A batch that is slow holds no other one: those behind it go on, within `AHEAD_BYTES`.

    Args:
        contents: Each file's name (or what stands for it) and content.
        decode: Turns a content into an image, or into the reason why there is none. A function of a
            module, or a `partial` of one.
        executor: Its workers may be on other machines.
        result_bytes: The most bytes that `decode` returns.

    Yields:
        Each file's name and what `decode` returns.

    Raises:
        UserError: A worker has too little memory for an image.
    """
    ahead: deque[Batch[T, Result]] = deque()

    def pop() -> Iterator[tuple[T, Result]]:
        names, future, _ = ahead.popleft()
        yield from zip(names, future.result(), strict=True)

    try:
        for names, files in _batches(contents):
            size = sum(map(len, files)) + len(files) * result_bytes
            future = executor.submit(decode_batch, list(map(str, names)), files, decode)
            ahead.append((names, future, size))
            del files
            while sum(size for _, _, size in ahead) > AHEAD_BYTES:
                yield from pop()
            while sum(size for _, future, size in ahead if not future.done()) > SENT_BYTES:
                wait([future for _, future, _ in ahead if not future.done()], None, FIRST_COMPLETED)
            while ahead and ahead[0][1].done():
                yield from pop()
        while ahead:
            yield from pop()
    finally:
        for _, future, _ in ahead:
            future.cancel()


def _batches(contents: Iterable[tuple[T, Content]]) -> Iterator[tuple[list[T], list[Content]]]:
    names, files = list[T](), list[Content]()
    for name, content in contents:
        names.append(name)
        files.append(content)
        if len(files) == BATCH_FILES or sum(map(len, files)) > BATCH_BYTES:
            yield names, files
            names, files = [], []
    if files:
        yield names, files


def decode_batch(
    names: list[str], files: list[Content], decode: Callable[[Content], Any]
) -> list[Any]:
    """Decodes files one after another, on a worker: that has several processes or threads.

    Raises:
        UserError: The machine has too little memory for an image.
    """
    results = []
    with quiet_decoders():
        for name, content in zip(names, files, strict=True):
            with naming(name, estimate_memory(content)):
                results.append(decode(content))
    return results
