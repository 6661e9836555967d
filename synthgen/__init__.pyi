from synthgen.api import Plan as Plan
from synthgen.api import Run as Run
from synthgen.api import compose as compose
from synthgen.api import open_run as open_run
from synthgen.api import pair as pair
from synthgen.api import plan as plan
from synthgen.api import prove as prove
from synthgen.api import run as run
from synthgen.errors import ConfigError as ConfigError
from synthgen.errors import RunFailedError as RunFailedError
from synthgen.errors import RunStoppedError as RunStoppedError
from synthgen.errors import SynthgenError as SynthgenError

__version__: str
DISTRIBUTION: str
