/*
 * Which lanes are cheap: they cost less than to read the log for them.
 */
#ifndef OBX_CHEAP_LANE_H
#define OBX_CHEAP_LANE_H

/*
 * Around a pass that moved its lane by "read" positions: true if its cost for
 * each position, without reading the log, was small.
 */
extern void obx_cheap_lane_begin(void);
extern bool obx_cheap_lane_end(int64 read);

#endif							/* OBX_CHEAP_LANE_H */
