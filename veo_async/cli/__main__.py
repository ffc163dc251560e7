"""`python -m veo_async.cli`."""

from veo_async.cli import main

if __name__ == "__main__":
    main()
