"""Tests of the package without POSIX, as on Windows, where it runs in pure PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.requirements import ROOT
from tests.test_structure import modules

MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")
NAMES = {
    "os": (
        "O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG chown chroot confstr"
        " copy_file_range ctermid fchdir fchmod fchown fork forkpty fstatvfs getegid geteuid getgid getgroups"
        " getloadavg getpgid getpgrp getpriority getsid getuid getxattr killpg lchown lockf memfd_create"
        " mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread preadv"
        " pwrite pwritev readv register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile"
        " setpgid setsid statvfs sync sysconf tcgetpgrp ttyname uname wait wait3 wait4 writev"
    ),
    "signal": (
        "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH alarm pause"
        " pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigtimedwait sigwait"
    ),
    "time": "clock_gettime pthread_getcpuclockid tzset",
}


def test_everything_is_imported_and_learns_without_posix(tmp_path: Path) -> None:
    """Names are removed after other packages are imported, because those depend on the real system."""
    own = [f"fractalops.{name}" for name in modules() if not name.startswith(("bench", "kernels", "__"))]
    code = f"""
import importlib, os, signal, sys, time
import filelock, numpy, PIL.Image, safetensors, torch, torch.utils.data, tqdm
filelock.FileLock = filelock.SoftFileLock  # that of this system takes some of the names
for name in {MODULES}:
    sys.modules[name] = None
for module, names in {NAMES}.items():
    for name in names.split():
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
for name in {own}:
    importlib.import_module(name)
import fractalops
from fractalops.cli import main
result = fractalops.fit(torch.rand(8, 8), fractalops.FitConfig(maps=3, points=20, sequences=2, steps=2))
result.save("system.safetensors")
sys.exit(main(["convert", "system.safetensors", "system.ifs"]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FRACTALOPS_BACKEND": "reference"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "system.ifs").is_file()
