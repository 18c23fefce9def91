"""Test a checkpoint of any config: `python tools/test.py CONFIG CHECKPOINT [options]`."""

from mmplugins.engine.launch import main_test

if __name__ == "__main__":
    main_test()
