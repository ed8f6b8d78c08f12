/* SPDX-License-Identifier: Apache-2.0 */
/* Re-derives the whole engine from its parts and says whether they agree. For tests; no call may run meanwhile. */
#ifndef IOF_IOAS_VALID_H
#define IOF_IOAS_VALID_H

#include "ioas/machine.h"

bool iofi_machine_is_valid(struct iof_machine *m);

#endif
