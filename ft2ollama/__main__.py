"""`python -m ft2ollama` is the same as the `ft2ollama` command."""

from ft2ollama.cli import main

if __name__ == "__main__":
    main()
