# SPDX-License-Identifier: Apache-2.0
# Nothing here is for Python: other modules cimport what args.pxd names.
