"""What programs that talk to people hold back, and what is heard after all."""

import subprocess
import sys


def errors_of(code):
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def test_logs_set_up_while_tensorflow_is_imported_are_heard_later():
    said = errors_of(
        "from kreid._quiet import import_tensorflow\n"
        "import_tensorflow()\n"
        "import tensorflow\n"
        "tensorflow.get_logger().warning('heard')"
    )
    assert said == "WARNING:tensorflow:heard\n"


def test_native_errors_alone_are_held_back():
    said = errors_of(
        "import os, sys\n"
        "from kreid._quiet import native_errors_held_back\n"
        "with native_errors_held_back():\n"
        "    os.write(2, b'native')\n"
        "    print('ours', file=sys.stderr)\n"
        "os.write(2, b'native after')"
    )
    assert said == "ours\nnative after"
