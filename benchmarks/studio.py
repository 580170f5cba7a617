"""The studio: seconds from pen up to new labels, a large folder, a simulated user, kills and hostile requests.

python benchmarks/studio.py --latency --data_dir ../shared/data/msrc_things
python benchmarks/studio.py --user --data_dir ../shared/data/msrc_things --strokes 10
python benchmarks/studio.py --kills 100
python benchmarks/studio.py --hostile 500
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from _served import Served, stroke

from spml.classes import class_names
from spml.cli.exits import run
from spml.data.lists import read_list
from spml.data.samples import read_image

STROKES, OTHERS = 50, 20  # strokes of the measurement, on images that others stand beside
SIZE = (480, 640)
MANY = 2_000  # images of the large folder
NOTHING = "snapshots/none"  # a source that is not there: kills and hostile requests need no features


def latency(folder: Path, images: Sequence[Path], source: str, threads: int) -> dict[str, str]:
    """Seconds as a page has them: from the edit that is sent to the labels that have come."""
    photos = folder / "photos"
    photos.mkdir()
    for number, path in enumerate(images[: OTHERS + 1]):
        enlarged = cv2.resize(read_image(path), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(photos / f"{number:02d}.jpg"), enlarged[..., ::-1])
    names = [path.name for path in sorted(photos.iterdir())]
    rng, found = np.random.default_rng(0), dict[str, list[float]]()
    with Served(photos, "--classes", "background,cow,grass,sky", "--source", source, threads=threads) as served:
        keys = [one["key"] for one in served.get("/api/state").json()["classes"]]

        def draw(name: str) -> int:
            """Draw, and return the image's version."""
            answer = served.post("/api/edits", {"client": "page", "edits": [_line(name, keys, rng)]})
            return answer["versions"][name]

        draw(names[0])
        start = time.perf_counter()
        served.get(f"/api/images/{names[0]}/labels")
        first = time.perf_counter() - start  # with the import of torch and the network
        for way in ("others=0", "others=1"):
            seconds = found.setdefault(way, [])
            if way == "others=1":
                _wait(served, len(names))
                for name in names[1:]:
                    draw(name)
                served.get(f"/api/images/{names[1]}/labels")
            for _ in range(STROKES):
                start = time.perf_counter()
                served.get(f"/api/images/{names[0]}/labels?{way}&version={draw(names[0])}")
                seconds.append(time.perf_counter() - start)
        memory = served.memory()
    told = {f"pen up to labels, {way}": _told(seconds) for way, seconds in found.items()}
    return {
        **told,
        "first labels, server cold": f"{first:.2f} s",
        "memory": f"{memory[0]:.0f} MB, peak {memory[1]:.0f} MB",
    }


def _line(name: str, keys: Sequence[str], rng: np.random.Generator) -> dict:
    """A stroke of a hundred points."""
    start, end = rng.uniform(0, SIZE[::-1], (2, 2))
    points = [tuple(start + part * (end - start) * 0.3) for part in np.linspace(0, 1, 100)]
    return stroke(name, keys[int(rng.integers(len(keys)))], [(float(x), float(y)) for x, y in points])


def _wait(served: Served, count: int) -> None:
    end = time.monotonic() + 300
    while served.get("/api/state").json()["features"]["done"] < count:
        if time.monotonic() > end:
            raise SystemExit("features did not come in 300 s")
        time.sleep(0.2)


def _told(seconds: Sequence[float]) -> str:
    """Median and 95th percentile."""
    ordered = sorted(seconds)
    last = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return f"median {1000 * statistics.median(ordered):.0f} ms, 95 % {1000 * last:.0f} ms, of {len(ordered)}"


def features(images: Sequence[Path], source: str) -> dict[str, str]:
    """Seconds that the features of an image of 640 x 480 take once the network is there."""
    import spml

    spreader, seconds = spml.Spreader(source), list[float]()
    for path in images[:20]:
        image = cv2.resize(read_image(path), SIZE[::-1])
        start = time.perf_counter()
        spreader.features(image)
        seconds.append(time.perf_counter() - start)
    return {"features of an image": _told(seconds[2:])}


def large(folder: Path, images: Sequence[Path], count: int) -> dict[str, str]:
    """A folder of many images: from the command to the page with its first images."""
    photos = folder / "many"
    photos.mkdir()
    for number in range(count):
        shutil.copy(images[number % len(images)], photos / f"{number:05d}.jpg")
    start = time.perf_counter()
    with Served(photos, "--source", NOTHING) as served:
        began = time.perf_counter() - start
        start = time.perf_counter()
        served.get("/")
        served.get("/api/state")
        rows = served.get("/api/images?start=0&count=200").json()
        assert rows["total"] == count
        page = time.perf_counter() - start
        start = time.perf_counter()
        for row in rows["images"][:20]:
            served.get(f"/api/images/{row['name']}/thumb")
        thumbs = time.perf_counter() - start
        memory = served.memory()[0]
    told = f"server {began:.2f} s, page and 200 rows {page:.2f} s, 20 thumbnails {thumbs:.2f} s, {memory:.0f} MB"
    return {f"{count} images": told}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--many", type=int, default=MANY, help="images of the large folder")
    parser.add_argument("--user", action="store_true")
    parser.add_argument("--kills", type=int, default=0, metavar="N")
    parser.add_argument("--hostile", type=int, default=0, metavar="N")
    parser.add_argument("--data_dir", type=Path, help="val.txt (image, mask) and classes.txt")
    parser.add_argument("--source", default="package:efficientnet_lite0")
    parser.add_argument("--images", type=int, default=0, help="of val.txt, for --user; 0: all")
    parser.add_argument("--strokes", type=int, default=10, help="an image, for --user")
    parser.add_argument("--ways", nargs="+", default=["own image", "all images", "forest"])
    parser.add_argument("--train", type=int, default=0, metavar="STEPS", help="for --user: train after every 10 images")
    parser.add_argument("--threads", type=int, default=2, help="of the server, for --latency")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    rows: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if args.latency or args.user:
            samples = read_list(args.data_dir / "val.txt", args.data_dir, columns=2)
            names = class_names(path=args.data_dir / "classes.txt")
        if args.latency:
            images = [sample.image_path for sample in samples]
            rows |= latency(folder, images, args.source, args.threads)
            rows |= features(images, args.source) | large(folder, images, args.many)
        if args.user:
            from _studio_user import report

            found = report(
                samples[: args.images or None], names, args.strokes, args.source, args.ways, args.train, args.seed
            )
            rows |= {name: " ".join(f"{value:5.1f}" for value in row) for name, row in found.items()}
        if args.kills:
            from _studio_kills import torture

            (folder / "kills").mkdir()
            rows |= torture(args.kills, args.seed, folder / "kills", NOTHING)
        if args.hostile:
            from _studio_hostile import attack

            (folder / "hostile").mkdir()
            rows |= attack(args.hostile, args.seed, folder / "hostile", NOTHING)
    print("\n".join(f"{name}: {value}" for name, value in rows.items()))
    return 1 if rows.get("faults") else 0


if __name__ == "__main__":
    run(main)
