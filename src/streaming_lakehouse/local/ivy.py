"""Resolves Maven coordinates with the Ivy that pyspark ships, as `spark-submit --packages` does."""

import os
import re
import select
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import quoteattr

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.java import java_home

SETTINGS_VARIABLE = "LAKEHOUSE_IVY_SETTINGS"
# With a host that drops packets Ivy prints nothing for minutes; a working download prints all the time.
IDLE_TIMEOUT_S = 60

# The repository is Ivy's default one, as for Spark. Ivy's own checksums cost a request per jar and are weaker
# than the lock's. Without `usepoms` only the named jars are requested, which takes 6 s instead of 19 s.
_SETTINGS = """<ivysettings>
<property name="ivy.checksums" value=""/>
<settings defaultResolver="central"/>
<timeout-constraints>
<timeout-constraint name="bounded" connectionTimeout="10000" readTimeout="50000"/>
</timeout-constraints>
<resolvers>
<ibiblio name="central" m2compatible="true" usepoms="{usepoms}" timeoutConstraint="bounded"/>
</resolvers>
</ivysettings>
"""
_MODULE = """<ivy-module version="2.0"><info organisation="streaming-lakehouse" module="jars"/>
<configurations><conf name="default"/></configurations>
<dependencies>
{dependencies}
</dependencies></ivy-module>
"""
_LAYOUT = "[organisation]/[artifact]/[revision]/[artifact]-[revision].[ext]"


def resolve(coordinates: Iterable[str], *, staging: Path, transitive: bool) -> Path:
    """Fetch the jars of `group:artifact:revision` coordinates into a folder with Maven's layout.

    `$LAKEHOUSE_IVY_SETTINGS` names an ivysettings file to use instead of the default repository, like Spark's
    `spark.jars.ivySettings`.
    Raises LakehouseError, within bounded time, if a jar cannot be fetched.
    """
    settings, module, fetched = staging / "ivysettings.xml", staging / "ivy.xml", staging / "jars"
    settings.write_text(_SETTINGS.format(usepoms=str(transitive).lower()))
    module.write_text(_MODULE.format(dependencies="\n".join(_dependency(c, transitive) for c in coordinates)))
    if chosen := os.environ.get(SETTINGS_VARIABLE):
        settings = Path(chosen).expanduser()
        if not settings.is_file():
            raise LakehouseError(f"{SETTINGS_VARIABLE} names {settings}, which is not a file: correct or unset it")
    (ivy,) = pyspark_jars().glob("ivy-*.jar")
    command = [str(java_home() / "bin" / "java"), "-cp", str(ivy), "org.apache.ivy.Main"]
    # A separate cache: incomplete or altered files in the user's Ivy cache cannot get in.
    command += ["-settings", str(settings), "-ivy", str(module), "-cache", str(staging / "cache")]
    failure = _run([*command, "-confs", "default", "-retrieve", str(fetched / _LAYOUT)])
    if failure:
        raise LakehouseError(
            f"The jars could not be fetched from {chosen or 'the public Maven repository'}: {failure}. "
            f"Connect once, or set {SETTINGS_VARIABLE} to the ivysettings.xml of a reachable mirror"
        )
    return fetched


def pyspark_jars() -> Path:
    """The folder of jars in the installed pyspark, found without importing it."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise LakehouseError("pyspark is not installed in this environment: run pip install pyspark==4.2.0")
    return Path(spec.origin).parent / "jars"


def _dependency(coordinate: str, transitive: bool) -> str:
    group, artifact, revision = (quoteattr(part) for part in coordinate.split(":"))
    head = f'<dependency org={group} name={artifact} rev={revision} conf="default-&gt;default"'
    if transitive:
        return f"{head}/>"
    return f'{head} transitive="false"><artifact name={artifact} type="jar" ext="jar"/></dependency>'


def _run(command: list[str]) -> str | None:
    """Runs Ivy; returns its error, or None."""
    output = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        while select.select([process.stdout], [], [], IDLE_TIMEOUT_S)[0]:
            if not (chunk := os.read(process.stdout.fileno(), 65536)):
                break
            output += chunk
        else:
            process.kill()
            return f"no response for {IDLE_TIMEOUT_S} s"
    return None if process.returncode == 0 else _reason(output.decode(errors="replace"))


def _reason(output: str) -> str:
    causes = (
        r"Server access error.*?\((.*?)\)",
        r"(module not found: \S+)",
        r"(download failed: \S+)",
        r"(\S*Exception.*)",
    )
    for cause in causes:
        if match := re.search(cause, output, re.IGNORECASE):
            return match[1]
    return output.strip().splitlines()[-1] if output.strip() else "Ivy exited without output"
