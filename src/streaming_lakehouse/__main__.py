"""`python -m streaming_lakehouse` is the command `lakehouse`."""

from streaming_lakehouse.cli.main import main

if __name__ == "__main__":
    main()
