/*
 * Rules that tables below lack, in the whole database.
 */
#ifndef OBX_SPREAD_H
#define OBX_SPREAD_H

typedef enum ObxSpread
{
	OBX_SPREAD_DONE,			/* no table lacks anything */
	OBX_SPREAD_MORE,			/* as many as one transaction should; go on */
	OBX_SPREAD_LOCKED			/* somebody works on a table; try again later */
} ObxSpread;

/*
 * Makes what is missing, some of it; commit, and call it again unless it is
 * done.  Waits for no lock, and runs no code of users.
 */
extern ObxSpread obx_spread_step(void);

#endif							/* OBX_SPREAD_H */
