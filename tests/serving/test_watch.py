from __future__ import annotations

import asyncio
from pathlib import Path

from pyflux_transfer.serving.watch import watch


def test_a_replaced_file_is_noticed_once_and_only_when_it_stands_still(tmp_path: Path) -> None:
    file = tmp_path / "bundle"
    file.write_text("one")
    calls: list[str] = []

    def replace(text: str) -> None:
        draft = tmp_path / "draft"
        draft.write_text(text)
        draft.replace(file)

    async def main() -> None:
        watcher = asyncio.create_task(watch(file, lambda: calls.append(file.read_text()), 0.05))
        await asyncio.sleep(0.3)
        assert calls == []
        replace("two, longer")
        await asyncio.sleep(0.4)
        assert calls == ["two, longer"]
        file.unlink()
        await asyncio.sleep(0.2)
        assert calls == ["two, longer"]
        for _ in range(30):  # being written to all the time
            with file.open("a") as open_file:
                open_file.write("x")
            await asyncio.sleep(0.01)
        assert calls == ["two, longer"]
        await asyncio.sleep(0.3)
        assert calls == ["two, longer", "x" * 30]
        watcher.cancel()

    asyncio.run(main())
