/* SPDX-License-Identifier: Apache-2.0 */
/* What the calling thread may do: the two capabilities that the contract asks for. */
#ifndef IOF_IOAS_CALLER_H
#define IOF_IOAS_CALLER_H

#include <stdbool.h>

enum iof_may {
	IOF_MAY_LOCK_FREELY, /* CAP_IPC_LOCK: pins are not charged (R4.1.3) */
	IOF_MAY_RAISE_LIMITS, /* CAP_SYS_RESOURCE: RLIMIT_MODE (2.8) */
};

bool iof_caller_may(enum iof_may what);

#endif
