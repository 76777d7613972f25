"""Run fastmlp from a checkout: ``python cli.py train --layers 64,64``."""

from fastmlp.cli import main

if __name__ == "__main__":
    main()
