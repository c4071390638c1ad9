"""`mien enroll`: a signed avatar from a clip, a photo or the camera, with the person's consent."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from mien.commands.enroll_finetune import DEFAULT_MINUTES, Wish, check_possible, tune_and_write
from mien.commands.enroll_guided import GUIDED_SECONDS, open_guide, with_coverage
from mien.encoder.capture import Source, open_source
from mien.encoder.enroll import REFERENCE_SIZES_PX, Enrolment, Settings, Window, enroll_in_detail
from mien.encoder.enrolment_coverage import Grade, ItemCoverage, advice
from mien.encoder.identity import make_template, open_embedder, save_template
from mien.encoder.owner_key import owner_key
from mien.encoder.reference_sheet import draw_reference_sheet
from mien.encoder.tracker_choice import open_tracker
from mien.encoder.tuning_talk import LEAST_S, Remembered
from mien.protocol.avatar import LayerKind
from mien.protocol.consent import SELF_STATEMENT, Consent
from mien.protocol.errors import MienError
from mien.protocol.private_files import write_whole

EXAMPLE: Final = """examples:
  mien enroll me.mp4 -o me.avatar --consent self --name Ada
  mien enroll camera -o me.avatar
  mien enroll camera -o me.avatar --no-guided --seconds 20
  mien enroll portrait.jpg -o me.avatar --consent self --preview sheet.png
  mien enroll clip.mp4 --until 0.6 -o me.avatar --consent self
  mien enroll me.mp4 -o me.avatar --consent self --finetune

A camera on a terminal asks for what it needs to see. In a clip look at the camera, then talk, smile, blink, open
your mouth, raise your brows and turn your head each way: what the avatar has seen it can show. The owner key is made on first use; see docs/privacy.md for what is kept and where.
"""

CAMERA_SECONDS: Final = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("input", help="a clip, a photo, a folder of images, 'camera' or 'camera:N'")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the .avatar file to write")
    parser.add_argument(
        "--consent",
        choices=["self"],
        help="'self': you are the person in the pictures and agree to an avatar of yourself; "
        "asked for on a terminal, required elsewhere",
    )
    parser.add_argument("--name", default="", help="the name that the people you call will see")
    parser.add_argument("--start-s", type=float, default=0.0, help="begin so many seconds into the input")
    parser.add_argument("--end-s", type=float, help="stop so many seconds into the input")
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"use so many seconds at most (guided: {GUIDED_SECONDS:g}; camera: {CAMERA_SECONDS:g}; else: all)",
    )
    parser.add_argument(
        "--guided",
        action=argparse.BooleanOptionalAction,
        help="ask for mouth, teeth, blink, brows, gaze and turns, and show what is covered; also checks that a living "
        "person follows (default: for a camera on a terminal)",
    )
    parser.add_argument(
        "--until", type=float, metavar="FRACTION", help="use only the first part of a clip, such as 0.6 of it"
    )
    parser.add_argument(
        "--reference-px",
        type=int,
        default=REFERENCE_SIZES_PX[-1],
        choices=REFERENCE_SIZES_PX,
        help="longer side of the reference pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--references", type=int, metavar="N", help="how many, 1 to 16 (default: 8, of 256 pixels 6)"
    )
    parser.add_argument(
        "--only-photographed",
        action="store_true",
        help="make up no reference pictures for what was never seen (an open mouth, shut lids)",
    )
    parser.add_argument(
        "--expires-days", type=int, help="the avatar is refused after so many days (default: never)"
    )
    parser.add_argument(
        "--no-template",
        action="store_true",
        help="keep no recognition template (it is made only where the identity extra is installed)",
    )
    parser.add_argument("--preview", type=Path, metavar="PNG", help="write a sheet of what others will see")
    parser.add_argument(
        "--finetune",
        action="store_true",
        help="then teach the generator you: writes a .tuning beside the avatar, if that draws you better. Give it to "
        f"whom you call, by another way (needs a clip of {LEAST_S:g} s or more, and the training extra)",
    )
    parser.add_argument(
        "--finetune-minutes",
        type=float,
        default=DEFAULT_MINUTES,
        metavar="N",
        help="learn for so long at most (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Ask for consent, enrol, sign, write, summarise. Returns 0."""
    console = Console(stderr=True)
    now_unix_s = int(time.time())
    consent = _consent(options.consent, console, now_unix_s)
    settings = _settings(options, now_unix_s)
    key = owner_key()
    with contextlib.closing(open_source(options.input)) as source, contextlib.ExitStack() as stack:
        if options.finetune:
            check_possible(source, options.finetune_minutes)
        guided = _is_guided(options.guided, source, console)
        settings = _with_window(settings, options, source, guided=guided)
        started = time.monotonic()
        opened = stack.enter_context(contextlib.closing(open_tracker()))
        still = stack.enter_context(contextlib.closing(open_tracker(still=True)))
        tracker = Remembered(opened) if options.finetune else opened
        guide = prompter = None
        if guided:
            allowed_s = options.seconds if options.seconds is not None else GUIDED_SECONDS
            guide, prompter = stack.enter_context(
                open_guide(console, (source.width, source.height), allowed_s)
            )
        tell = stack.enter_context(_progress(console))
        enrolment = enroll_in_detail(
            source,
            consent=consent,
            name=options.name,
            key=key,
            tracker=tracker,
            settings=settings,
            progress=tell if prompter is None else with_coverage(tell, prompter),
            guide=guide,
            still=still,
        )
        seconds = time.monotonic() - started
        write_whole(options.out, enrolment.data)
        tuned = None
        if isinstance(tracker, Remembered):
            wish = Wish(options.out.with_suffix(".tuning"), options.finetune_minutes)
            tuned = tune_and_write(wish, source, tracker, settings, enrolment, key, tell)
    if options.preview:
        _write_sheet(options.preview, enrolment.data, now_unix_s)
    summary = summarise(enrolment, seconds) | {
        "template": None if options.no_template else _remember(enrolment)
    }
    if tuned is not None:
        summary["finetune"] = tuned.report
    if options.json:
        print(json.dumps(summary))
    else:
        _print_summary(options.out, summary)
        _print_items(enrolment.items)
        for line in tuned.lines if tuned else ():
            print(line)
    for warning in enrolment.warnings:
        console.print(f"[yellow]note[/yellow] {warning}", highlight=False, soft_wrap=True)
    return 0


def _consent(given: str | None, console: Console, now_unix_s: int) -> Consent:
    """Return the consent record. Raises `MienError` where it was not given and nobody can be asked, or was denied."""
    if given == "self":
        return Consent.of_self(now_unix_s)
    if not (sys.stdin.isatty() and console.is_terminal):
        raise MienError(
            "an avatar needs the consent of the person in the pictures. If that is you, add --consent self: "
            f'it records in the avatar: "{SELF_STATEMENT}"'
        )
    console.print("An avatar is a likeness of a person, and needs that person's consent. Please read:\n")
    console.print(f"  {SELF_STATEMENT}\n", style="bold")
    console.print(
        "The statement and the time are signed into the avatar. It never leaves this machine by itself."
    )
    if console.input("Do you agree? Type yes: ").strip().lower() != "yes":
        raise MienError("no consent, no avatar: nothing was recorded")
    return Consent.of_self(now_unix_s)


def _is_guided(wanted: bool | None, source: Source, console: Console) -> bool:
    """Return whether the person is led: by default in front of a camera, on a terminal. Raises `MienError`."""
    if wanted and not source.live:
        raise MienError("--guided needs a camera: a clip shows what it shows")
    if wanted is None:
        return source.live and sys.stdin.isatty() and console.is_terminal
    return wanted


def _settings(options: argparse.Namespace, now_unix_s: int) -> Settings:
    if options.references is not None and not 1 <= options.references <= 16:
        raise MienError(f"--references {options.references}: expected 1 to 16")
    if options.expires_days is not None and not 1 <= options.expires_days <= 36_500:
        raise MienError(f"--expires-days {options.expires_days}: expected 1 to 36500")
    expires = None if options.expires_days is None else now_unix_s + options.expires_days * 86_400
    return Settings(
        reference_px=options.reference_px,
        references=options.references,
        expires_unix_s=expires,
        complete=not options.only_photographed,
    )


def _with_window(
    settings: Settings, options: argparse.Namespace, source: Source, *, guided: bool = False
) -> Settings:
    """Return the settings with the part of the source that the options name. Raises `MienError` for none."""
    if options.start_s < 0 or (options.end_s is not None and options.end_s <= options.start_s):
        raise MienError("--start-s and --end-s: expected 0 <= start < end")
    if options.seconds is not None and options.seconds <= 0:
        raise MienError(f"--seconds {options.seconds:g}: expected more than 0")
    start_us = round(options.start_s * 1e6)
    seconds = options.seconds
    if seconds is None and source.live:
        seconds = GUIDED_SECONDS if guided else CAMERA_SECONDS
    ends = [round(options.end_s * 1e6)] if options.end_s is not None else []
    ends += [start_us + round(seconds * 1e6)] if seconds is not None else []
    frames = None
    if options.until is not None:
        if not 0 < options.until <= 1:
            raise MienError(f"--until {options.until:g}: expected a fraction above 0, at most 1")
        if source.live:
            raise MienError("--until needs an input that ends: use --seconds with a camera")
        if options.start_s:
            raise MienError("--until and --start-s: choose one of them")
        frames = max(1, int(options.until * sum(1 for _ in source) + 1e-9))
    window = Window(start_us=start_us, end_us=min(ends) if ends else None, frames=frames)
    return replace(settings, window=window)


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Any]:
    """Give a function that shows how far the work is: a bar on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def tell(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage, completed=done, total=total or None)

        yield tell


def _remember(enrolment: Enrolment) -> str | None:
    """Keep a recognition template beside the owner's key, where the extra for it is installed; return where."""
    embedder = open_embedder()
    if embedder is None:
        return None
    return str(save_template(make_template(enrolment.avatar, embedder), enrolment.avatar.avatar_id))


def _write_sheet(path: Path, data: bytes, now_unix_s: int) -> None:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(draw_reference_sheet(data, now_unix_s=now_unix_s)).save(out, "PNG")
    write_whole(path, out.getvalue())


def summarise(enrolment: Enrolment, seconds: float) -> dict[str, Any]:
    """Return what a person or a program may want to know, as JSON-ready values."""
    avatar = enrolment.avatar
    manifest = avatar.manifest
    head = len(enrolment.data) - sum(layer.size for layer in manifest.layers)
    widths = [reference.size for reference in avatar.references]
    return {
        "bytes": len(enrolment.data),
        "avatar_id": avatar.avatar_id.hex(),
        "owner": manifest.owner_fingerprint,
        "name": manifest.name,
        "consent": str(manifest.consent.kind),
        "uses": list(manifest.uses),
        "expires_unix_s": manifest.expires_unix_s,
        "tracker": manifest.tracker.name.lower(),
        "frame": [manifest.width, manifest.height],
        "unit_px": float(manifest.unit_px),
        "frames": enrolment.frames,
        "without_face": enrolment.without_face,
        "several_faces": enrolment.several_faces,
        "first_picture_bytes": head + manifest.layers[0].size,
        "first_picture_quality": enrolment.first_quality,
        "head_bytes": head,
        "layers": [
            {"kind": LayerKind(x.kind).name.lower(), "slot": x.slot, "bytes": x.size} for x in manifest.layers
        ],
        "references": [
            {
                "slot": r.slot,
                "source_frame": frame,
                "width": w,
                "height": h,
                "landmarks": len(r.landmarks),
                "made_up": dict(manifest.made_up).get(r.slot),
            }
            for r, frame, (w, h) in zip(avatar.references, enrolment.reference_frames, widths, strict=True)
        ],
        "picture_quality": enrolment.picture_quality,
        "coverage": {
            name: dict(
                zip(("clip_low", "clip_high", "low", "high"), (round(v, 3) for v in values), strict=True)
            )
            for name, values in enrolment.coverage.items()
        },
        "items": [
            {
                "item": str(one.item),
                "grade": str(one.grade),
                "amount": round(one.amount, 2),
                "best_frame": one.best,
                "best_s": round(one.time_us / 1e6, 2),
                "sharpness": round(one.sharpness, 1),
            }
            for one in enrolment.items
        ],
        "advice": list(advice(enrolment.items)),
        "matte": enrolment.matter,
        "warnings": list(enrolment.warnings),
        "seconds": round(seconds, 2),
    }


COVERAGE_LINES: Final = (
    ("yaw", "turn", "degrees"),
    ("pitch", "nod", "degrees"),
    ("mouth_open", "mouth opening", "of the pupils' distance"),
    ("lids_left", "lid opening", "of the eye's width"),
)


def _print_summary(out: Path, summary: dict[str, Any]) -> None:
    first = summary["first_picture_bytes"]
    references = summary["references"]
    size = f"{references[0]['width']} x {references[0]['height']}"
    print(f"{out}: {summary['bytes']:,} bytes, signed by owner key {summary['owner']}")
    print(f"  consent      {summary['consent']}; may be used for {', '.join(summary['uses'])}")
    print(
        f"  frames       {summary['frames']} looked at, {summary['without_face']} without a face, "
        f"{summary['several_faces']} with several"
    )
    print(
        f"  first face   {first:,} bytes (WebP quality {summary['first_picture_quality']}), "
        f"{first * 8 / 40_000:.1f} s at 40 kbps"
    )
    print(
        f"  references   {len(references)} of {size} px (WebP quality {summary['picture_quality']}), "
        f"frames {', '.join(str(r['source_frame']) for r in references if not r['made_up'])}"
    )
    if made_up := [r["made_up"] for r in references if r["made_up"]]:
        print(f"  made up      {', '.join(made_up)}: never seen, painted from reference 0")
    layers = ", ".join(
        f"{x['kind']}{' ' + str(x['slot']) if x['kind'] == 'picture' else ''} {x['bytes']:,}"
        for x in summary["layers"]
    )
    print(f"  layers       {layers} bytes")
    for key, label, unit in COVERAGE_LINES:
        c = summary["coverage"][key]
        digits = 0 if unit == "degrees" else 2
        shown = f"{c['low']:.{digits}f} to {c['high']:.{digits}f}"
        seen = f"{c['clip_low']:.{digits}f} to {c['clip_high']:.{digits}f}"
        print(f"  {label:<14}{shown} {unit} in the references, {seen} in the input")
    print(f"  matte        {summary['matte']}")
    if summary["template"]:
        print(f"  template     {summary['template']}, to notice when it is not you; it is never sent")
    print(f"  took         {summary['seconds']:.1f} s")


def _print_items(items: Sequence[ItemCoverage]) -> None:
    """Print what the input has shown of what an avatar should have seen, and what would improve it."""
    if not items:
        return
    print("  shown")
    for one in items:
        seen = f"{100 * min(one.amount, 9.99):3.0f} % of what is wanted"
        if one.grade is not Grade.MISSING:
            seen += f", best at {one.time_us / 1e6:.1f} s, sharpness {one.sharpness:.0f}"
        if one.grade is Grade.WEAK and one.amount >= 1:
            seen += "; blurred, or for an instant only"
        print(f"    {one.item:<13}{one.grade:<8} {seen}")
    lines = advice(items)
    if lines:
        print("  would improve the avatar")
    for line in lines:
        print(f"    {line}")
