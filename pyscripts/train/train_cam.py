"""Train a network of class activation maps from tags: plain CAM, SEAM or PPC, by the config's train.task.

The same as `spml train`.
"""

from spml.cli.exits import run


def main(words: list[str] | None = None) -> int:
    from spml.cli.main import command  # here, where `run` listens for Ctrl-C

    return command("train", words, "train_cam.py", tasks=("cam", "seam", "ppc"))


if __name__ == "__main__":
    run(main)
