"""placeholder"""
class Sharing:
    def apply(self, items): pass
    def clear(self): pass
