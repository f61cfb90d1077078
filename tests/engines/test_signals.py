"""SIGTERM is heard wherever a process is at work."""

import subprocess
import sys

PROGRAM = """if True:
    import asyncio, os, signal, sys, threading, time
    from tarloom.create.shards.own_loop import OwnLoop
    from tarloom.engines.signals import stop_as_by_ctrl_c

    class Slow(asyncio.Protocol):
        def data_received(self, data):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            time.sleep(1)

    async def wait_in_vain():
        server = await asyncio.get_running_loop().create_server(Slow, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"a")
        try:
            await asyncio.sleep(60)
        finally:
            print("told to end")

    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_as_by_ctrl_c()
    try:
        OwnLoop().run(wait_in_vain())
    except KeyboardInterrupt:
        print("ended")
"""


def test_it_ends_an_event_loop_in_the_middle_of_a_callback():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=200)
    assert (run.stdout, run.stderr) == ("told to end\nended\n", "")
