UPDATE `Component` SET `Condition` = 'AUTOSTART="1" OR (STARTED AND NOT AUTOSTART="0")' WHERE `Component` = 'Autostart'
