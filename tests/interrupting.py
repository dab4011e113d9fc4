"""An interruption at the n-th moment at which Python would hear a signal, in the code of some files."""

from dis import opname


class Interrupt:
    """A function for ``sys.settrace`` that interrupts, as a signal does, the n-th time that code looks for signals.

    It does so at the beginning of a function, and after calls and jumps backwards.
    """

    def __init__(self, n, files, interrupt):
        self.left, self._files, self._interrupt, self._before = n, files, interrupt, {}

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        self._look()
        return self._trace

    def _trace(self, frame, event, argument):
        if event == "opcode":
            if self._before.get(frame, "").startswith(("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE")):
                self._look()
            self._before[frame] = opname[frame.f_code.co_code[frame.f_lasti]]
        return self._trace

    def _look(self):
        self.left -= 1
        if self.left == 0:
            self._interrupt()
