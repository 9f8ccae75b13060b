#!/usr/bin/env python3
"""Runs a packer: the same as the command `des-packer`, for where the package's commands are not on the path.

python scripts/run_multi_shard_packer.py --sources configs/source_databases.yaml --data-dir packer-1
"""

from des.cli.packer import main

if __name__ == "__main__":
    main()
