# SPDX-License-Identifier: Apache-2.0
"""${message}.

MariaDB commits every statement by itself, so an interrupted migration is run again from its start: each step must bear
that (if_not_exists, if_exists).
"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
