UPDATE `Component` SET `Condition` = 'AUTOSTART="1" OR (STARTED AND NOT AUTOSTART="0")' WHERE `Component` = 'Autostart'
INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('Quit', 82, 'kerbpass.exe', 'quit --wait')
INSERT INTO `CustomAction` (`Action`, `Type`, `Source`, `Target`) VALUES ('NoAutostart', 82, 'kerbpass.exe', 'autostart off')
INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('Quit', 'REMOVE', 1301)
INSERT INTO `InstallExecuteSequence` (`Action`, `Condition`, `Sequence`) VALUES ('NoAutostart', 'REMOVE="ALL" AND NOT UPGRADINGPRODUCTCODE', 1302)
UPDATE `Property` SET `Value` = 'AUTOSTART;INSTALLDIR;STARTED;WIX_DOWNGRADE_DETECTED;WIX_UPGRADE_DETECTED' WHERE `Property` = 'SecureCustomProperties'
