"""Train any config of mmplugins or its hosts: `python tools/train.py CONFIG [options]`."""

from mmplugins.engine.launch import main_train

if __name__ == "__main__":
    main_train()
