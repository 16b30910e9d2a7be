/* The numbers that front and brain have in common; src/masu/cli/brain/protocol.py has them too, and a test compares. */
#ifndef MASU_FRONT_PROTOCOL_H
#define MASU_FRONT_PROTOCOL_H

#define PROTOCOL_VERSION 2

/* Every message begins with four u32, little-endian: its type and three numbers a, b, c. */
#define HEADER_LENGTH 16
#define MESSAGE_LIMIT 65536
#define FDS_LIMIT 253 /* SCM_MAX_FD */
#define SECRET_LENGTH 16

/* From the brain. */
#define SAY_HELLO 1 /* a: PROTOCOL_VERSION, b: 1 when it takes no call now, c: the secret's fd in the listener's process */
#define SAY_GO 2    /* with a pidfd of the process that does the call; from here on the front does not go cold */
#define SAY_COLD 3  /* why, as text */
#define SAY_SPAWN 4 /* see children.c */
#define SAY_WAIT 5  /* a: pid or -1, b: options of wait4(2) */
#define SAY_SUBREAPER 6
#define SAY_EXIT 7   /* a: exit status */
#define SAY_ATTEND 8 /* see session.c */

#define ATTEND_STDIN 1    /* flags: what comes from our stdin goes in */
#define ATTEND_TERMINAL 2 /* it has a terminal: our window's size is its */
#define ATTEND_RAW 4      /* our terminal is to be raw */
#define ATTEND_SIGNALS 8  /* signals go to it */
#define ENDED 2
#define ENDED_DETACHED 3 /* by its keys */
#define ENDED_ALONE 4    /* the monitor hung up without a status */

/* From the front. */
#define ASK_CALL 16   /* see request.c */
#define ASK_ANSWER 17 /* a: result or negative errno, b: wait status */
/* From `masu brain`. */
#define ASK_STATUS 18
#define ASK_LEAVE 19

#endif
