; The setup for one user, who needs no administrator. packaging/windows/build
; defines VERSION, NUMERIC, FILES, ICON, SIGN and OUT.
;
; Switches: /S asks nothing, /D=FOLDER (the last one, without quotation marks)
; installs there, /AUTOSTART=1 starts Kerbpass at each login.

Unicode true
; Of the installed NSIS, only x86 and x64 exist. Windows on ARM runs both.
Target amd64-unicode
SetCompressor /SOLID lzma
SetCompressorDictSize 32 ; the two programs are nearly the same: the second costs nothing
RequestExecutionLevel user
ManifestSupportedOS Win10
ManifestDPIAware true

!include LogicLib.nsh
!include FileFunc.nsh
!include MUI2.nsh

!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\Kerbpass"
!define RUN "Software\Microsoft\Windows\CurrentVersion\Run"
!define APPROVED "Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run"

Name "Kerbpass"
OutFile "${OUT}"
InstallDir "$LOCALAPPDATA\Programs\Kerbpass"
InstallDirRegKey HKCU "${UNINSTALL}" "InstallLocation"
BrandingText "Kerbpass ${VERSION}"
ShowInstDetails nevershow
ShowUninstDetails nevershow
!if "${SIGN}" != ""
  !uninstfinalize '${SIGN} "%1"' = 0
!endif

VIProductVersion "${NUMERIC}.0"
VIAddVersionKey "ProductName" "Kerbpass"
VIAddVersionKey "CompanyName" "Kerbpass"
VIAddVersionKey "FileDescription" "Kerbpass Setup"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "LegalCopyright" "See LICENSE.txt"

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_FINISHPAGE_RUN "$INSTDIR\kerbpassw.exe"
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"
!insertmacro MUI_LANGUAGE "German"
!insertmacro MUI_LANGUAGE "French"

Var ran ; "0" if a helper ran and was asked to quit

; quit ends the helper that runs and waits until its files can be replaced. A
; file that stays in use gets out of the way by another name.
!macro quit UN
Function ${UN}release
  Exch $1
  ${If} ${FileExists} "$1"
    ${For} $2 1 60
      ClearErrors
      FileOpen $3 "$1" a
      ${IfNot} ${Errors}
        FileClose $3
        Pop $1
        Return
      ${EndIf}
      Sleep 250
    ${Next}
    Rename "$1" "$1.old"
  ${EndIf}
  Pop $1
FunctionEnd

Function ${UN}quit
  StrCpy $ran ""
  Delete "$INSTDIR\kerbpass.exe.old"
  Delete "$INSTDIR\kerbpassw.exe.old"
  ${If} ${FileExists} "$INSTDIR\kerbpass.exe"
    nsExec::Exec '"$INSTDIR\kerbpass.exe" quit --wait'
    Pop $ran
    Push "$INSTDIR\kerbpass.exe"
    Call ${UN}release
    Push "$INSTDIR\kerbpassw.exe"
    Call ${UN}release
  ${EndIf}
FunctionEnd
!macroend
!insertmacro quit ""
!insertmacro quit "un."

Section
  Call quit
  SetOutPath "$INSTDIR"
  File "${FILES}/kerbpass.exe"
  File "${FILES}/kerbpassw.exe"
  File "${FILES}/LICENSE.txt"
  File "${FILES}/licences.txt"
  WriteUninstaller "$INSTDIR\uninstall.exe"
  CreateShortcut "$SMPROGRAMS\Kerbpass.lnk" "$INSTDIR\kerbpassw.exe"

  WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "Kerbpass"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\kerbpassw.exe"
  WriteRegStr HKCU "${UNINSTALL}" "Publisher" "Kerbpass"
  WriteRegStr HKCU "${UNINSTALL}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1
  ${GetSize} "$INSTDIR" "/S=0K" $1 $2 $3
  WriteRegDWORD HKCU "${UNINSTALL}" "EstimatedSize" $1

  ${GetParameters} $1
  ${GetOptions} $1 "/AUTOSTART=" $2
  ${If} $2 == "1"
    WriteRegStr HKCU "${RUN}" "kerbpass" '"$INSTDIR\kerbpassw.exe"'
  ${EndIf}
  ${If} $ran == "0"
    Exec '"$INSTDIR\kerbpassw.exe"'
  ${EndIf}
SectionEnd

; What the person set stays, in AppData\Roaming\kerbpass. Log and cache go.
Section "Uninstall"
  Call un.quit
  ; No program may be left with a proxy that is gone. The record of what they had is in the folder removed below.
  nsExec::Exec '"$INSTDIR\kerbpass.exe" apps revert --all'
  Pop $2
  ReadRegStr $1 HKCU "${RUN}" "kerbpass"
  ${If} $1 == '"$INSTDIR\kerbpassw.exe"'
  ${OrIf} $1 == '"$INSTDIR\kerbpass.exe"'
    DeleteRegValue HKCU "${RUN}" "kerbpass"
    DeleteRegValue HKCU "${APPROVED}" "kerbpass"
  ${EndIf}
  Delete "$SMPROGRAMS\Kerbpass.lnk"
  Delete "$INSTDIR\kerbpass.exe"
  Delete "$INSTDIR\kerbpassw.exe"
  Delete "$INSTDIR\LICENSE.txt"
  Delete "$INSTDIR\licences.txt"
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  ${If} $2 == "0"
    RMDir /r "$LOCALAPPDATA\kerbpass"
  ${EndIf}
  DeleteRegKey HKCU "${UNINSTALL}"
SectionEnd
