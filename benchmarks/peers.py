"""Other packages, in an environment of their own, so that none of theirs is in this one."""

import subprocess
import venv
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".benchmarks" / "peers"
PACKAGES = ("aiofiles", "aiohttp", "fal-client", "google-genai", "httpx", "openai", "replicate")


def python() -> str:
    """Return the interpreter of the peers' environment, which is made on the first call."""
    interpreter = FOLDER / "bin" / "python"
    stamp = FOLDER / "installed.txt"
    wanted = "\n".join(PACKAGES)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(FOLDER, with_pip=True, clear=FOLDER.exists())
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", *PACKAGES]
        subprocess.run([*pip, "--disable-pip-version-check"], check=True)
        stamp.write_text(wanted)
    return str(interpreter)


def versions() -> str:
    """Return the peers and their versions, in one line."""
    code = (
        "from importlib.metadata import version;"
        f"print(', '.join(f'{{name}} {{version(name)}}' for name in {PACKAGES!r}))"
    )
    done = subprocess.run([python(), "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()
