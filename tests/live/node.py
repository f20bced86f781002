"""Run a script in node beside the modules of the live figures, and get its result: `run_js(script, inputs)`."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from conftest import node

from ddpm_lite.live.modules import HERE

MAIN = """
const inputs = %(inputs)s;
const load = (name) => import(new URL(`${name}.js`, "%(folder)s/"));
const message = async (f) => { try { await f(); } catch (error) { return error.message; } };
const result = await (async () => {
%(script)s
})();
const strange = (value) => typeof value === "number" && !Number.isFinite(value);
const plain = (key, value) => ArrayBuffer.isView(value) ? Array.from(value) : strange(value) ? `@${value}@` : value;
process.stdout.write(JSON.stringify(result ?? null, plain).replace(/"@(-?Infinity|NaN)@"/g, "$1"));
"""


def run_js(script: str, inputs: Any = None) -> Any:
    """What the body of an async function returns in node, as JSON; Infinity and NaN may be in it.

    In the script `inputs` holds the inputs (tensors and arrays become lists), `await load("paths")` is a module of
    `ddpm_lite/live`, and `await message(() => ...)` the message of the error that a call throws. Starting node takes
    50 ms: give many cases to one script. Raises AssertionError with node's report where the script fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        for module in HERE.glob("*.js"):
            shutil.copy(module, folder)
        Path(folder, "package.json").write_text('{"type": "module"}', encoding="utf-8")  # each .js is an ES module
        values = json.dumps(inputs, default=lambda value: value.tolist())
        main = Path(folder, "main.mjs")
        main.write_text(MAIN % {"inputs": values, "folder": Path(folder).as_uri(), "script": script}, encoding="utf-8")
        command = [str(node()), str(main)]
        ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert ended.returncode == 0, f"node failed\n{ended.stderr}"
    return json.loads(ended.stdout)
